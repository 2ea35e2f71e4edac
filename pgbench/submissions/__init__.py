"""Answers that come from elsewhere (`read`) and answers that go to a test server (`write`, `gather`)."""
