"""How good the shipped models are: what `fastgan evaluate` and `make evaluate` compute.

For each kind of model a file here with

    def figures(generator: fastgan.Generator) -> dict[str, Figure]

which runs the generator as its users do and judges the result on data that it was not trained on;
and, where the picture that ships beside the model is drawn by a program, `picture(generator)`,
which returns a `PIL.Image`. `table.FIGURES` and `table.PICTURES` say which function is for which
shipped model: a new model has a line there. `report` runs them in every precision that the machine
has, `document` writes docs/models.md from it, and `draw` draws the pictures.

Shared: `distances` between collections of images, on `features` of a small network of our own or on
Inception's; `novelty`, whether samples are new and differ.

The names of the figures are the rows of the table that people see: short, lower case. What a
figure must reach is in the `Figure`, so that the tests, the command and the document agree.
"""

from fastgan.recipes.evaluation.figure import Figure

__all__ = ["Figure"]
