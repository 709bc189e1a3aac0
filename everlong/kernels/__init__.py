"""The hot loops, one file each: the plain form is the definition, the fast form agrees with it by law."""
