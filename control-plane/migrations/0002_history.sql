-- Why a version was made, in its author's words, and the version that it brought back.
ALTER TABLE versions ADD COLUMN message TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN rollback_of INTEGER;
-- Texts that the version's part of the history has, so that the history can be bounded without reading them.
ALTER TABLE versions ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;

UPDATE versions SET bytes = (
    SELECT coalesce(sum(length(CAST(h.text AS BLOB))), 0) FROM history h WHERE h.version = versions.version
);

-- The text of one object in one version.
CREATE INDEX history_object ON history (kind, namespace, name, version);

-- Whole states are kept from this version on.
INSERT INTO meta (key, value) VALUES ('history_from', '1');
