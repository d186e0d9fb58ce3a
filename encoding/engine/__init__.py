"""The mathematics: functions on torch tensors that know no labels."""
