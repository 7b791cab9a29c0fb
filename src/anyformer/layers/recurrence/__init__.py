"""Recurrent token mixers: a state of fixed size carries what came before."""
