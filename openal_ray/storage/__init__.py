"""Where run folders are kept: on a disk, as a Path, or in an object store, as a Url that looks like one.

A store knows no append and no rename, but a file of it is replaced as a whole or not at all. So there is no working
copy that could differ from it: whatever is written goes to the store at once, in the order in which it would go to a
disk, and the run goes on when it is there. The record, the one file that grows, is written whole each time. The files
are those that a disk would have, so a folder may be copied from the one to the other and resumed there.
"""
