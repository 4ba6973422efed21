"""microrec: the nightly pipeline from a micro-video service's logs to ranked candidate tables."""
