"""The Codewell service: REST, storage, indexes and jobs around the codecs of `models`."""
