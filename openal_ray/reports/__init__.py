"""Tables, figures, HTML reports and trackers, all made from run folders alone; start in `html`."""
