"""Layouts of published weights, one file for each network; the cards of the networks name them."""
