"""ONNX Runtime, on a model made with ``onnx.helper``: Gemm, Relu, Softmax."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from workloads import make_data, make_weights

from contenders.common import timed


def make_model(workload) -> bytes:
    """The network with fastnn's initial weights as a serialised float32 model."""
    nodes, tensors, below = [], [], "x"
    for i, (W, b) in enumerate(make_weights(workload)):
        tensors += [numpy_helper.from_array(W, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes += [
            helper.make_node("Gemm", [below, f"W{i}", f"b{i}"], [f"z{i}"]),
            helper.make_node("Relu", [f"z{i}"], [f"a{i}"]),
        ]
        below = f"a{i}"
    nodes[-1] = helper.make_node("Softmax", [nodes[-2].output[0]], ["p"], axis=1)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", workload.sizes[0]), ("p", workload.sizes[-1]))
    ]
    graph = helper.make_graph(nodes, workload.name, values[:1], values[1:], tensors)
    # Opset 17 and IR 8 run on ONNX Runtime 1.12 and later.
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="fastnn"
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Predictor:
    """An inference session with a given number of intra-op threads."""

    def __init__(self, threads: int):
        self.threads = threads

    def about(self) -> dict:
        return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}

    def load(self, workload) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.X = make_data(workload)[0]
        self.session = onnxruntime.InferenceSession(
            make_model(workload), options, providers=["CPUExecutionProvider"]
        )

    def outputs(self, rows: int) -> np.ndarray:
        return self._predict(self.X[:rows])

    def calls(self, rows: int, count: int) -> np.ndarray:
        return timed(self._predict, self.X[:rows], count)

    def _predict(self, x):
        return self.session.run(None, {"x": x})[0]
