"""One module per library: how it trains a workload, predicts, and multiplies matrices.

A module has some of the classes ``Trainer``, ``Predictor`` and ``Multiplier``; each object lives in
its own process (:mod:`processes`). They take the number of threads to use and have these methods:

about()              dict: the library's version, its BLAS or kernels, and flags
load(workload)       prepare the first epoch or prediction, with fastnn's initial weights
epoch(number)        dict: ``seconds`` of training one epoch in fastnn's row order, and its
                     ``loss``, the mean over the batches, each before its step   (Trainer)
outputs(rows)        probabilities of the first rows, shape (rows, outputs)      (Predictor)
calls(rows, count)   array of the seconds of each of `count` predictions         (Predictor)
seconds(product, rows, n_in, n_out, count)
                     mean seconds of one product of a dense layer              (Multiplier)

The modules ``accuracy_*`` have a class ``Accuracy`` for accuracy.py, which chooses weights, order
and threads itself: ``load(folder, name, rows)``, ``start(recipe, seed)``, ``epoch()``, the seconds
of one, and ``accuracy()``, the percentage of the test images.

The clock of an epoch starts when data and weights are in the library's own form in memory, and
stops when the new weights are computed. The row order is made before, except in fastnn, whose time
includes its shuffle.
"""
