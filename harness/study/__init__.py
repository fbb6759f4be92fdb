"""The ocular study: compress an eye-recognition network in many ways, and see what each costs and what it buys."""
