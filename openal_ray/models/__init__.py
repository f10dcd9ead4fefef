"""Networks: backbones by name, the signals read from them, and learners that say how to train them."""
