"""From a path to arrays: headers, decoding, labels, pairs. The rest of `seg.data` imports it."""
