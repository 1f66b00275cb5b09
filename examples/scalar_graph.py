"""Seed 002's algorithm 6.2 beside seed 001's sum over all paths: one result, and the work of both."""

import argparse

from nbprop.scalar_graph import COSINE, SINE, SQUARE, SUM, ScalarGraph, product_layers


def small():
    """f(w) = sin(w^2) + cos(w^2), node by node."""
    g = ScalarGraph(1)
    square = g.node(SQUARE, 0)
    g.node(SUM, g.node(SINE, square), g.node(COSINE, square))
    print(f"f(0.5) = {g.forward([0.5]):.6f}, f'(0.5) = {g.backward()[0]:.6f}")
    for i, (u, gradient) in enumerate(zip(g.u, g.grad_table)):
        print(f"  node {i}: u = {u:.6f}, df/du = {gradient:.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less depth")
    deepest = 6 if parser.parse_args().quick else 16
    small()
    print(f"\n{'layers of 2 products':>20} {'paths':>8} {'products by paths':>18} {'by algorithm 6.2':>17}")
    for depth in range(2, deepest + 1, 2):
        g = product_layers(depth)
        g.forward([1.0])
        by_paths = g.derivative_by_paths(0)
        work, g.products = g.products, 0
        by_table = g.backward()[0]
        assert by_paths == by_table
        print(f"{depth:>20} {g.paths(0):>8} {work:>18} {g.products:>17}")


if __name__ == "__main__":
    main()
