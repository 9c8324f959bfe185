"""Streams: an encoder, fed with audio as it arrives, that gives the frames of the offline encoder."""
