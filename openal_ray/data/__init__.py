"""Pictures and labels: by name (`catalogue.load`), from own files, or from torch data sets (`from_torch`)."""
