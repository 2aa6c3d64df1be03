"""The rules of a hub: plain functions over plain values, standard library only."""
