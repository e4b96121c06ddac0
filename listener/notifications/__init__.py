"""A bucket's notification rules, made from config.yaml's triggers; rules of others stay as they are."""
