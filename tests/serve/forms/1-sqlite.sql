-- written by proxybox of commit e6ae26d8
BEGIN TRANSACTION;
CREATE TABLE artefacts (
	id VARCHAR(64) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	shelf VARCHAR(255) NOT NULL, 
	name TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	made FLOAT NOT NULL, 
	content BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "artefacts" VALUES('file','0123456789ab','jobe','data.csv',8,'492d5ea496056f1a6a6592241032fab764c321596317930b4fa0e1e8bc3b7470',1700000005.0,X'612C620A312C320A');
CREATE TABLE audit (
	number INTEGER NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
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
INSERT INTO "audit" VALUES(1,'r0',1700000100.0,'0123456789ab','127.0.0.1','POST','/v1/run',200,0.1,'default','python','0000000000000000000000000000000000000000000000000000000000000000','ok',0.01);
INSERT INTO "audit" VALUES(2,'r1',1700000101.0,'0123456789ab','127.0.0.1','POST','/v1/run',200,0.1,'default','python','0000000000000000000000000000000000000000000000000000000000000000','ok',0.01);
INSERT INTO "audit" VALUES(3,'r2',1700000102.0,'0123456789ab','127.0.0.1','POST','/v1/run',200,0.1,'default','python','0000000000000000000000000000000000000000000000000000000000000000','ok',0.01);
CREATE TABLE sessions (
	id VARCHAR(64) NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	policy VARCHAR(64) NOT NULL, 
	language VARCHAR(64) NOT NULL, 
	made FLOAT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	ended FLOAT, 
	PRIMARY KEY (id)
);
INSERT INTO "sessions" VALUES('lived','old','0123456789ab','default','python',1700000002.0,'live','',NULL);
INSERT INTO "sessions" VALUES('ended','old','0123456789ab','strict','python',1700000003.0,'ended','it was closed \0;\dc80;',1700000004.0);
CREATE INDEX ix_sessions_key ON sessions ("key");
CREATE INDEX ix_sessions_service ON sessions (service);
CREATE INDEX ix_artefacts_shelf ON artefacts (shelf);
CREATE INDEX ix_artefacts_key ON artefacts ("key");
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_audit_id ON audit (id);
COMMIT;
