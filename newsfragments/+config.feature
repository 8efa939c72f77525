``--config FILE`` takes all settings from a TOML file, ``--check`` says of every error where it is, and ``SIGHUP`` has limits, deadlines, relaxations, policy and users change.
