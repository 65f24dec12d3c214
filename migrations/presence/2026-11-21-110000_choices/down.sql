DROP TABLE presence.choices;
