"""The Spark session: its options, the class archive that shortens its start, the daemon of its workers."""
