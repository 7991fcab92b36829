"""DBD: a defence that steers by the direction in which the transformed views of an image agree."""
