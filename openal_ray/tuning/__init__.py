"""The search for hyper-parameters on a round's labelled images."""
