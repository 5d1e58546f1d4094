-- name: vector_search
-- role: owner
-- transactional: yes

-- A chunk's document and its place there, and the different words of the content. Tables of other dimensions are made with
-- the first vector of theirs, in this form.
ALTER TABLE vector_embeddings_128 ADD COLUMN document_id TEXT CHECK (length(document_id) BETWEEN 1 AND 255);
ALTER TABLE vector_embeddings_128 ADD COLUMN position INTEGER CHECK (position >= 0);
ALTER TABLE vector_embeddings_128 ADD COLUMN terms TEXT;
CREATE INDEX vector_embeddings_128_document ON vector_embeddings_128 (tenant_id, document_id, position) WHERE document_id IS NOT NULL;
ALTER TABLE vector_embeddings_384 ADD COLUMN document_id TEXT CHECK (length(document_id) BETWEEN 1 AND 255);
ALTER TABLE vector_embeddings_384 ADD COLUMN position INTEGER CHECK (position >= 0);
ALTER TABLE vector_embeddings_384 ADD COLUMN terms TEXT;
CREATE INDEX vector_embeddings_384_document ON vector_embeddings_384 (tenant_id, document_id, position) WHERE document_id IS NOT NULL;
ALTER TABLE vector_embeddings_768 ADD COLUMN document_id TEXT CHECK (length(document_id) BETWEEN 1 AND 255);
ALTER TABLE vector_embeddings_768 ADD COLUMN position INTEGER CHECK (position >= 0);
ALTER TABLE vector_embeddings_768 ADD COLUMN terms TEXT;
CREATE INDEX vector_embeddings_768_document ON vector_embeddings_768 (tenant_id, document_id, position) WHERE document_id IS NOT NULL;
ALTER TABLE vector_embeddings_1536 ADD COLUMN document_id TEXT CHECK (length(document_id) BETWEEN 1 AND 255);
ALTER TABLE vector_embeddings_1536 ADD COLUMN position INTEGER CHECK (position >= 0);
ALTER TABLE vector_embeddings_1536 ADD COLUMN terms TEXT;
CREATE INDEX vector_embeddings_1536_document ON vector_embeddings_1536 (tenant_id, document_id, position) WHERE document_id IS NOT NULL;
ALTER TABLE vector_embeddings_3072 ADD COLUMN document_id TEXT CHECK (length(document_id) BETWEEN 1 AND 255);
ALTER TABLE vector_embeddings_3072 ADD COLUMN position INTEGER CHECK (position >= 0);
ALTER TABLE vector_embeddings_3072 ADD COLUMN terms TEXT;
CREATE INDEX vector_embeddings_3072_document ON vector_embeddings_3072 (tenant_id, document_id, position) WHERE document_id IS NOT NULL;
