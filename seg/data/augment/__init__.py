"""What changes images and masks together: transforms, crops, copy-paste. Data sets import it."""
