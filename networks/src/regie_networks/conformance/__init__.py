"""The suite that every connector runs against a stand-in of its network."""
