"""Recurrent layers: ONNX LSTM, GRU and RNN with their default activations, as loops over time."""
