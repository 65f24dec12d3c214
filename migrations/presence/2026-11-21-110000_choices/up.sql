-- What people chose to show while they are there. Who never chose has no row.
CREATE TABLE presence.choices (
    user_id uuid NOT NULL,
    status text NOT NULL,
    text text,
    -- Grows with each choice: replicas hear of choices in any order, and the latest counts.
    version bigint NOT NULL,
    CONSTRAINT choices_pkey PRIMARY KEY (user_id),
    CONSTRAINT choices_status_check CHECK (status IN ('online', 'away', 'busy', 'invisible')),
    CONSTRAINT choices_text_check CHECK (char_length(text) BETWEEN 1 AND 200)
) WITH (fillfactor = 70);
