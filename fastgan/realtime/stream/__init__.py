"""Frames on a schedule, rendered ahead."""
