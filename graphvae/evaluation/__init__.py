"""Measurements of trained models; metrics come from scikit-learn where it has them."""
