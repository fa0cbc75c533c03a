"""Constants of formulas that several engines share."""

#: SELU's scale and alpha: with them, mean 0 and variance 1 are a stable fixed point of a layer
#: (G. Klambauer et al., Self-normalizing neural networks, 2017, eq. 14).
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
