"""Prediction of one row and of many."""

from __future__ import annotations

from dataclasses import replace

from .common import QUICK, OnEngine


class Predict(OnEngine):
    """``predict_proba`` of a network after a short fit."""

    case_name = "network"
    cases = ("table-64", "digits-512")

    def prepare(self, name):
        from workloads import WORKLOADS, make_data, make_network

        workload = replace(WORKLOADS[name], rows=200 if QUICK else 20_000)
        self.X, y = make_data(workload)
        self.net = make_network(workload)
        self.net.fit(self.X[:32], y[:32], loss=workload.loss, epochs=1, progress=False)
        self.row = self.X[:1]
        self.net.predict_proba(self.row)

    def time_one_row(self, network, engine, threads):
        """One row."""
        self.net.predict_proba(self.row)

    def time_many_rows(self, network, engine, threads):
        """20000 rows in one call, 200 under ``track.py quick``."""
        self.net.predict_proba(self.X)
