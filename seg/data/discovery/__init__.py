"""What a folder of images and masks holds, and the lines of a YAML that read it as it is."""
