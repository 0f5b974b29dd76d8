"""How long it will take, before it is done: plan cost over machine profile, plus queue, plus network."""
