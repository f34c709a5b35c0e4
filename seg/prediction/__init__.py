"""What is used elsewhere: label images in class colours, trained networks as programs.

The report and the commands import it. Nothing is imported here, so that no command loads another's
libraries.
"""
