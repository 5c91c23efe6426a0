-- the tables that proxybox of commit e6ae26d8 makes in PostgreSQL
CREATE TABLE artefacts (
	id VARCHAR(64) NOT NULL, 
	key VARCHAR(64) NOT NULL, 
	shelf VARCHAR(255) NOT NULL, 
	name TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	made FLOAT NOT NULL, 
	content BYTEA NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_artefacts_key ON artefacts (key);
CREATE INDEX ix_artefacts_shelf ON artefacts (shelf);
CREATE TABLE audit (
	number BIGSERIAL NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	key VARCHAR(64) NOT NULL, 
	client VARCHAR(255) NOT NULL, 
	method VARCHAR(16) NOT NULL, 
	path TEXT NOT NULL, 
	http_status INTEGER NOT NULL, 
	seconds FLOAT NOT NULL, 
	policy VARCHAR(64) NOT NULL, 
	language VARCHAR(64) NOT NULL, 
	code_sha256 VARCHAR(64) NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	cpu FLOAT, 
	PRIMARY KEY (number)
);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_audit_id ON audit (id);
CREATE TABLE sessions (
	id VARCHAR(64) NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	key VARCHAR(64) NOT NULL, 
	policy VARCHAR(64) NOT NULL, 
	language VARCHAR(64) NOT NULL, 
	made FLOAT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	ended FLOAT, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_sessions_key ON sessions (key);
CREATE INDEX ix_sessions_service ON sessions (service);
