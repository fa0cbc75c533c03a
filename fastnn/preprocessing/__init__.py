"""Preprocessing: layers at the beginning of a network that prepare X.

===================== ==========================================================================
layer                 what it makes of a column x
===================== ==========================================================================
``Center``            x - mean; of each pixel (AlexNet's mean image) or of each channel (VGG)
``Standardize``       (x - mean) / standard deviation, of each column or of each channel
``MinMax``            x mapped from [min, max] to [0, 1] or another interval
``Rescale``           x factor + offset, such as ``Rescale(1/255)``
``RobustScale``       (x - median) / inter-quartile range, then smoothly limited
``QuantileNormal``    its quantile, as the normal number of the same quantile
``Whiten``            all columns together: uncorrelated, with variance 1 (PCA or ZCA)
``Impute``            a missing value becomes the median, the mean or a number
===================== ==========================================================================

They learn what they need, such as means, from the training rows of the first fit, never from those
of validation, or from the rows given to :meth:`fastnn.Sequential.adapt`. Further fits keep that. It
belongs to the state of the network: it is saved, copied and restored with it, under names such as
``"0.mean"``; ``"0.rest"`` is what the network's dtype rounds off the numbers that the layer
subtracts. A fit prepares all its rows once, before the first epoch, in the network's dtype.
Predictions prepare theirs; where all layers are linear and nothing is lost by it, they run on the
rows as given, with the layers folded into the weights of the first Dense.
"""

from .affine import Center, MinMax, Rescale, RobustScale, Standardize
from .missing import Impute
from .quantiles import QuantileNormal
from .whitening import Whiten

__all__ = [
    "Center", "Impute", "MinMax", "QuantileNormal", "Rescale", "RobustScale",
    "Standardize", "Whiten",
]  # fmt: skip
