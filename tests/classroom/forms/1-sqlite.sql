-- written by proxybox of commit e6ae26d8
BEGIN TRANSACTION;
CREATE TABLE facts (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "facts" VALUES('form','1');
INSERT INTO "facts" VALUES('name','"7b"');
CREATE TABLE handins (
	id VARCHAR(64) NOT NULL, 
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	late BOOLEAN NOT NULL, 
	save VARCHAR(64) NOT NULL, 
	files TEXT NOT NULL, 
	grade TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE hints (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	shown INTEGER NOT NULL, 
	PRIMARY KEY (seat, exercise)
);
CREATE TABLE lines (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	platform VARCHAR(2000) NOT NULL, 
	user VARCHAR(255) NOT NULL, 
	url TEXT NOT NULL, 
	due BOOLEAN NOT NULL, 
	PRIMARY KEY (seat, exercise)
);
CREATE TABLE results (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	grade TEXT NOT NULL, 
	PRIMARY KEY (seat, exercise)
);
CREATE TABLE runs (
	number INTEGER NOT NULL, 
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	at FLOAT NOT NULL, 
	seconds FLOAT NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	error TEXT NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE seats (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	personal VARCHAR(32) NOT NULL, 
	generation INTEGER NOT NULL, 
	joined FLOAT NOT NULL, 
	exercise VARCHAR(64), 
	hand FLOAT, 
	locked BOOLEAN NOT NULL, 
	removed BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "seats" VALUES('s1','Ada','aaaa',1,1700000000.0,NULL,NULL,0,0);
CREATE TABLE shares (
	id VARCHAR(64) NOT NULL, 
	title TEXT NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	"by" VARCHAR(16) NOT NULL, 
	at FLOAT NOT NULL, 
	files TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE texts (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	begun FLOAT NOT NULL, 
	at FLOAT NOT NULL, 
	why VARCHAR(16) NOT NULL, 
	save VARCHAR(64) NOT NULL, 
	size INTEGER NOT NULL, 
	files TEXT NOT NULL, 
	PRIMARY KEY (seat, exercise, version)
);
INSERT INTO "texts" VALUES('s1','hello',1,1700000000.0,1700000000.0,'saved','x',23,'{"main.py": "print(1)"}');
CREATE TABLE users (
	platform VARCHAR(2000) NOT NULL, 
	user VARCHAR(255) NOT NULL, 
	seat VARCHAR(64) NOT NULL, 
	PRIMARY KEY (platform, user)
);
CREATE INDEX ix_handins_seat ON handins (seat);
CREATE INDEX ix_runs_seat ON runs (seat);
COMMIT;
