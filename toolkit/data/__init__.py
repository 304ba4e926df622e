"""Data, from folders of captioned images to batches. Code that needs torch is imported from `images`."""

from toolkit.data.batches import BatchPlan, count_batches
from toolkit.data.examples import Example
from toolkit.data.scan import scan_datasets
from toolkit.data.scan_result import DatasetTable, Scan, describe_scan

__all__ = ["BatchPlan", "DatasetTable", "Example", "Scan", "count_batches", "describe_scan", "scan_datasets"]
