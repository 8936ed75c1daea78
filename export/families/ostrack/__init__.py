"""OSTrack and JN: one-stream transformers, with candidate elimination (OSTrack) and a target token (JN)."""
