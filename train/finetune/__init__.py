"""Teaching a trained tracker a new kind of video: clips in, a checked bundle out."""
