"""Trials that train side by side in one pass of the frozen encoder; a single one is a pack of one."""
