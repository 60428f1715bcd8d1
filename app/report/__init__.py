"""What a person looks at after a batch: a picture of each case and one page for all."""
