"""NES, the non-entailment score of captions: rated by people (sheet, ratings, score), or by a judge."""
