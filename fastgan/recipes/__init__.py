"""Training the seed models: each recipe trains a network and exports it with `fastgan.export`.

A recipe is a file here with `SETTINGS`, its presets by name, and `build(settings, images)`, and
has its name in `fastgan.cli.train.Recipe`. `trainer.train` runs any of them.
"""
