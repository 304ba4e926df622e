"""What fits where: quantized weights today, plans and offloading beside them."""
