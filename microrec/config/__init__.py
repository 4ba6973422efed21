"""Where to run (`settings`, from `MICROREC_*` variables) and what to run with (`recipe`, from `microrec.toml`)."""
