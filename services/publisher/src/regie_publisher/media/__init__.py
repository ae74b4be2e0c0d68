"""The pictures and videos of posts. `uploads` makes them, `store` reads them for networks; `images` normalises and
reduces pictures in child processes, `videos` looks at MP4."""
