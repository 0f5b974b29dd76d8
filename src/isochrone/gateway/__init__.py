"""The HTTP face: `serve` listens, `app` routes, one file a dialect turns bodies to requests and deltas to answers."""
