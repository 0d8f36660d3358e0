"""An experiment file, checked, and the ensemble of minimizers that it asks for."""
