"""Manages buckets' notification rules, made from config.yaml's triggers; rules of others stay unchanged."""
