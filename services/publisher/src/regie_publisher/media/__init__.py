"""Media: the pictures of posts. `store` keeps them; `images` normalises and reduces them in child processes."""
