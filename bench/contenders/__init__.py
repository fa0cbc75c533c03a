"""One module for each library that is compared: how it trains a workload and how it predicts.

A module has a class ``Trainer``, a class ``Predictor``, or both; each lives in a process of its own
(:mod:`processes`). They take the number of threads to use and have these methods:

about()              dict: the library's version, its BLAS or kernels, and flags
load(workload)       be ready for the first epoch, with fastnn's initial weights
epoch(number)        dict: ``seconds`` of training one epoch in fastnn's row order, and its
                     ``loss``, the mean over all rows as they were met, before each step
outputs(rows)        probabilities of so many rows, shape (rows, outputs)    (Predictor)
calls(rows, count)   array of the seconds of so many predictions             (Predictor)

The clock starts with data, weights and row order in the library's own form in memory, and stops
with the new weights computed.
"""
